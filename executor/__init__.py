"""Does: all input and output. Servers, streams, gateway, command line."""
