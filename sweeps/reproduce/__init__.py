"""The receipt of a trial: trained again from its record, and compared number by number."""
