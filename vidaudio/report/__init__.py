"""What people look at and listen to: pages made from a corpus, and from a system's sounds."""
