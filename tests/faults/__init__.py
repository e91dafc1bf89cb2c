"""What must hold when things break: one oracle, the tools that break them, and a test for each fault."""
