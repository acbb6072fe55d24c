"""Google Ads v26 over REST: GAQL, ``search`` and ``searchStream``, and who may ask for which account (``accounts``)."""
