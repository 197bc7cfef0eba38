"""What hears a study while it trains: its journal and trackers."""
