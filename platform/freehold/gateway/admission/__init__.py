"""May this request go ahead? One atomic reservation for all limits at once, and what holds while Redis is away."""
