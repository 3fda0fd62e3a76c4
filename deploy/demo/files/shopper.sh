# A shopper: looks through the catalog over IPv4, IPv6 and HTTP/2, reads reviews, fills the cart. Plain curl.
while :; do
    curl -s -o /dev/null -4 "http://catalog/item/[1-20]"
    curl -s -o /dev/null -6 "http://catalog/item/[1-20]"
    curl -s -o /dev/null "http://cart/add/[1-5]"
    curl -s -o /dev/null --http2-prior-knowledge "http://catalog/item/[1-20]"
    curl -s -o /dev/null "http://reviews/cart.py" "http://reviews/none"
    sleep 0.2
done
