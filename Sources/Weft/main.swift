import ArgumentParser
import AsyncHTTPClient
print("weft")
