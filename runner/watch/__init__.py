"""Keeping the live models seconds behind their streams, in one process.

landing changes -> lock -> load -> live models -> their tests -> published/live/<n> -> unlock
"""
