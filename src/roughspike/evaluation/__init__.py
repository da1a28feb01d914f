"""How well simulated spikes resemble recorded ones: figures of merit, and everything a report shows."""
