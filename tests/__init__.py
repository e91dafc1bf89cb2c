"""The tests are the specification: each test's docstring is the rule it proves."""
