print("weft-proxy-host")
