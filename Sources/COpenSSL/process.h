#pragma once
/// Makes the BIO method; false when memory is out.
int copenssl_make_socket_method(void);
/// Puts Weft's provider in the default one's place; before anything is looked up.
int copenssl_make_provider(void);
