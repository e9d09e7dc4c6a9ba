"""Results as pages to look at: one file each, which fetches nothing, and a leaderboard of many."""
