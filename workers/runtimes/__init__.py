"""What starts engines: base.py is the interface, local/ runs vLLM as a child process, kubernetes/ will run pods."""
