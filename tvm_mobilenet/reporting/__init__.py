"""Results files → Markdown and HTML. Imports no engine, neither torch nor tvm."""
