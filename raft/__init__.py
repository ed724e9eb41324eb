"""What every replica must agree on: the model, the pure state machine, the wheel, and the Raft core under them."""
