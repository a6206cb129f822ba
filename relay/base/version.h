#ifndef BASE_VERSION_H
#define BASE_VERSION_H

/* The program's version; CHANGELOG.md says what came with it. */
#define VERSION "0.1.0"

#endif /* BASE_VERSION_H */
