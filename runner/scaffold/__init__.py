"""`wellspring init` and `wellspring example remove`: a project without the worked example."""
