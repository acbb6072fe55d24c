"""How the service is put on machines; ``deploy.local`` runs its servers on this one."""
