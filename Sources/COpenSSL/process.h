#pragma once
/// Makes the BIO method; false when memory is out.
int copenssl_make_socket_method(void);
