/* Checks of test programs. */
#ifndef CHECK_H
#define CHECK_H

#include <hugebar.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program unless the condition holds. */
#define CHECK(condition)                                                                                   \
    do {                                                                                                   \
        if (!(condition)) {                                                                                \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, hugebar_error_message());   \
            exit(EXIT_FAILURE);                                                                            \
        }                                                                                                  \
    } while (0)

/* Ends the program unless the function of the library succeeds. */
#define OK(call) CHECK((call) == 0)

#endif
