"""Keeping an agent at work on a campaign: its sessions started, watched, ended and accounted for."""
