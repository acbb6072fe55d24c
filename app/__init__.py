"""Connector Service: fetches advertising and CRM data through the providers' own quotas."""
