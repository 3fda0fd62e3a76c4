# Calls a meshed pod from outside the mesh, by its address.
while :; do
    curl -s -o /dev/null "http://10.77.1.12:8000/add/1"
    sleep 0.5
done
