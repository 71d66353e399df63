"""How fast it is: named workloads, each in a file of its own, each number beside its target.

Nothing here is a timed test: a number below its target is printed as MISS and fails nothing.
"""
