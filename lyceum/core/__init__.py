"""The ground everything stands on: Run, config, errors, log, device, report. Standard library only."""
