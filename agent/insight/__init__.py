"""What the site's history says: energy, statistics, anomalies, recommendations. Read-side only; nothing here acts."""
