#pragma once
#include <stddef.h>
/// Makes the BIO method; false when memory is out.
int copenssl_make_socket_method(void);
/// Puts Weft's provider in the default one's place; before anything is looked up.
int copenssl_make_provider(void);
/// malloc and free, with what this thread has given back at hand. A piece may go on to free and realloc.
void *copenssl_take_piece(size_t count);
void copenssl_give_piece(void *piece);
