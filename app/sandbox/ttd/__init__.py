"""The Trade Desk as its API v3 shows it: tokens, partners and advertisers, MyReports."""
