"""Reports for people to view and listen to: pages made from a corpus, and from a system's sounds."""
