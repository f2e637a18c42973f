"""Where the time of one request goes, measured from inside. It does not know sockets or rivals."""
