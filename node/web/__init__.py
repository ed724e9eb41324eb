"""The dashboard: pages that the node renders, from the API's own answers, with the rights of whoever looks at them."""
