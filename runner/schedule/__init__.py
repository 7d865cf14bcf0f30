"""Runs at set times, by what the machine has for it: cron or systemd."""
