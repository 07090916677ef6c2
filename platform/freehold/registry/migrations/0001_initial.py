import django.db.models.deletion
import freehold.common.ids
from freehold.db import rls
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('tenancy', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='ModelRepo',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('name', models.CharField(max_length=96)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
            ],
        ),
        migrations.CreateModel(
            name='Revision',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('commit_id', models.CharField(max_length=40)),
                ('message', models.TextField()),
                ('description', models.TextField(blank=True)),
                ('author', models.TextField()),
                ('status', models.TextField(choices=[('verified', 'verified'), ('incomplete', 'incomplete')])),
                ('digest', models.CharField(max_length=64)),
                ('inspection', models.JSONField(default=dict)),
                ('parent', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='registry.revision')),
                ('repo', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='revisions', to='registry.modelrepo')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
            ],
        ),
        migrations.CreateModel(
            name='Ref',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('kind', models.TextField(choices=[('branch', 'branch'), ('tag', 'tag')])),
                ('name', models.CharField(max_length=200)),
                ('repo', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='refs', to='registry.modelrepo')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
                ('revision', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='refs', to='registry.revision')),
            ],
        ),
        migrations.CreateModel(
            name='ModelFile',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('path', models.CharField(max_length=1024)),
                ('size', models.BigIntegerField()),
                ('sha256', models.CharField(max_length=64)),
                ('oid', models.CharField(max_length=40)),
                ('lfs', models.BooleanField()),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
                ('revision', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='files', to='registry.revision')),
            ],
        ),
        migrations.CreateModel(
            name='RevisionHold',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('holder', models.TextField()),
                ('revision', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='holds', to='registry.revision')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
            ],
        ),
        migrations.CreateModel(
            name='Blob',
            fields=[
                ('id', models.UUIDField(default=freehold.common.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('sha256', models.CharField(max_length=64)),
                ('size', models.BigIntegerField()),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenancy.tenant')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('tenant', 'sha256'), name='blob_content')],
            },
        ),
        migrations.AddConstraint(
            model_name='modelrepo',
            constraint=models.UniqueConstraint(fields=('tenant', 'name'), name='model_repo_name'),
        ),
        migrations.AddConstraint(
            model_name='revision',
            constraint=models.UniqueConstraint(fields=('repo', 'commit_id'), name='revision_commit_id'),
        ),
        migrations.AddConstraint(
            model_name='ref',
            constraint=models.UniqueConstraint(fields=('repo', 'kind', 'name'), name='ref_name'),
        ),
        migrations.AddIndex(
            model_name='modelfile',
            index=models.Index(fields=['tenant', 'sha256'], name='model_file_content'),
        ),
        migrations.AddConstraint(
            model_name='modelfile',
            constraint=models.UniqueConstraint(fields=('revision', 'path'), name='model_file_path'),
        ),
        migrations.AddConstraint(
            model_name='revisionhold',
            constraint=models.UniqueConstraint(fields=('revision', 'holder'), name='revision_hold_once'),
        ),
        *(
            rls.enable(f"registry_{table}")
            for table in ("modelrepo", "revision", "ref", "modelfile", "revisionhold", "blob")
        ),
    ]
