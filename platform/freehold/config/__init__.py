"""How the pieces are put together into one web process: settings, URLs, ASGI application."""
