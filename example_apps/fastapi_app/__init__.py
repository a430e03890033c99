"""Upload ledgers as CSV, watch them being read, get a report by mail."""
