print("weft-proxy")
