"""Events about runs for lineage servers, as https://openlineage.io specifies them."""
