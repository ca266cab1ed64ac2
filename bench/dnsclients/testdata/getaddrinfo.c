// getaddrinfo prints the addresses that the C library finds for each of its arguments.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		struct addrinfo hints, *list;
		memset(&hints, 0, sizeof hints);
		hints.ai_socktype = SOCK_STREAM;
		printf("== %s\n", argv[i]);
		if (getaddrinfo(argv[i], NULL, &hints, &list) != 0) {
			printf("none\n");
			continue;
		}
		for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
			char host[NI_MAXHOST];
			if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST) == 0)
				printf("%s\n", host);
		}
		freeaddrinfo(list);
	}
	return 0;
}
