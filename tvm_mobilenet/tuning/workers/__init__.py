"""The processes that build and run candidates, and what is said to them."""
