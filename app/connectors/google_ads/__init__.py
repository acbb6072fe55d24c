"""Google Ads: reports of searchStream, REST v26."""
