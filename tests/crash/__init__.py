"""Real SIGKILLs around every commit and outside call; nothing may be lost or done twice."""
