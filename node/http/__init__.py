"""What a node tells over HTTP: the JSON API, metrics, health, and the server that the dashboard's pages (node/web) come from."""
