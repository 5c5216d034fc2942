"""Many fits in lock-step by torch, on a processor or a graphics card."""
