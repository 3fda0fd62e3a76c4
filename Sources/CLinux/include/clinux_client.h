#pragma once
#include "clinux_event_loop.h"

/// Binds a transparent socket to a client's address with a port of Weft's own choice: 0 or -errno.
///
/// Not the kernel's choice (port 0): it would come from the range clients choose from themselves, 32768 to 60999. In the pod's namespace the
/// proxy's own accepted socket is already "podIP:port with client:P"; were the new one to get that same P, its SYN would be delivered to the
/// accepted socket, and the connect would hang. With k connections of one client, k in 28,232 connects would. Ports 1024 to 32767 are taken in
/// turn by all workers; what is taken is passed over, and only after that the kernel chooses.
int clinux_bind_as_client(int fd, const struct clinux_address *client);
