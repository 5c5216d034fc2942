"""The native executor: machine code made from a graph by LLVM, for many fits, many points and many epochs."""
