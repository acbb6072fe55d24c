"""Doubles of the ports, typed and tested like everything else; no production module imports them."""
