"""Where models can run: regions, clusters, flavors, node pools; placement picks among them."""
