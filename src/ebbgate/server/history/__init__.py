"""What happened at each limit over time: recorded beside the decisions, kept in the background, read by people."""
