"""When the stages run and how long they take: pace, latencies, trace points."""
