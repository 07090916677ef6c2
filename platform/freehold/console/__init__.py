"""The customer's web console: one view module and one template folder a screen. Reads through selectors, writes through
services; htmx polls what moves. Operators have Django's admin."""
