"""Many fits at once, in lock-step: in NumPy, in machine code, and on any device of torch."""
