"""The callback inside a real LiteLLM proxy, which has an environment of its own: `make litellm`."""
