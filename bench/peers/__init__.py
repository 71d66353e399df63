"""What others do: each peer in an environment of its own, made when it is first measured.

A peer that cannot be installed or started is left out, and that is said.
"""
