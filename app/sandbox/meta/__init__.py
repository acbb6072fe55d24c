"""Meta's Marketing API, simulated: insights runs, their pages, ad accounts, and Facebook's sign-in."""
