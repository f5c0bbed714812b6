"""Wire code with the programs that it must understand, over real sockets."""
